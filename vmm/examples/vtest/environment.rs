//! Two Vulkan drivers in one process: the loader asks the environment which one to load, and gets
//! the host's in the server's thread, where virglrenderer maps memory, and Venus in all others.

use std::cell::Cell;
use std::ffi::{CStr, CString, NulError, c_char, c_void};
use std::sync::OnceLock;

/// What Vulkan loaders read.
const NAMES: [&CStr; 2] = [c"VK_DRIVER_FILES", c"VK_ICD_FILENAMES"];

/// The manifest for the other threads.
static DRIVER: OnceLock<CString> = OnceLock::new();

thread_local! {
    static ON_THE_HOST: Cell<bool> = const { Cell::new(false) };
}

/// This thread sees the environment as it is.
pub(super) fn stay_on_the_host() {
    ON_THE_HOST.set(true);
}

/// From now on other threads are told to load this driver.
pub(super) fn serve_others_with(manifest: String) -> Result<(), NulError> {
    let manifest = CString::new(manifest)?;
    DRIVER.get_or_init(|| manifest);
    Ok(())
}

/// `getenv(3)` in front of the C library's.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promises are the C library's.
    unsafe { answer(name, c"getenv") }
}

/// `secure_getenv(3)` in front of the C library's.
///
/// # Safety
///
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn secure_getenv(name: *const c_char) -> *mut c_char {
    // SAFETY: the caller's promises are the C library's.
    unsafe { answer(name, c"secure_getenv") }
}

/// # Safety
///
/// `name` is a string, and nobody changes the environment meanwhile.
unsafe fn answer(name: *const c_char, next: &CStr) -> *mut c_char {
    // SAFETY: the caller vouches for it.
    let wanted = unsafe { CStr::from_ptr(name) };
    if NAMES.contains(&wanted)
        && !ON_THE_HOST.get()
        && let Some(driver) = DRIVER.get()
    {
        return driver.as_ptr().cast_mut();
    }
    // SAFETY: the name is a string; the C library has both functions, of this type.
    unsafe {
        let next: *mut c_void = libc::dlsym(libc::RTLD_NEXT, next.as_ptr());
        let next: Option<unsafe extern "C" fn(*const c_char) -> *mut c_char> =
            std::mem::transmute(next);
        next.map_or(std::ptr::null_mut(), |next| next(name))
    }
}
