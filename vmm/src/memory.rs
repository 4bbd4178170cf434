//! Guest memory.

use std::sync::Arc;

/// Guest memory, shared by the vCPUs' loader and every device. Accesses are bounds-checked by
/// vm-memory; what the guest writes there may change at any time.
pub type GuestMemory = Arc<vm_memory::GuestMemoryMmap>;
