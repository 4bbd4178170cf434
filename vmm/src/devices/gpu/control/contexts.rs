//! Contexts: which there are, and which resources each may use.

use std::collections::{BTreeSet, HashMap};

use super::{Control, MOST_CONTEXTS, refusal};
use crate::devices::gpu::protocol::Refusal;

/// The low byte of a context's `init` is its capability set; the rest is reserved.
const CAPSET_MASK: u32 = 0xff;

/// The contexts.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    resources: HashMap<u32, BTreeSet<u32>>,
}

impl Contexts {
    pub(super) fn contains(&self, context: u32) -> bool {
        self.resources.contains_key(&context)
    }

    pub(super) fn find(&mut self, context: u32) -> Result<&mut BTreeSet<u32>, Refusal> {
        self.resources.get_mut(&context).ok_or(Refusal::Context)
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.resources.keys().copied().collect()
    }

    /// A resource is gone.
    pub(super) fn forget(&mut self, resource: u32) {
        for resources in self.resources.values_mut() {
            resources.remove(&resource);
        }
    }
}

impl Control {
    pub(super) fn create_context(
        &mut self,
        context: u32,
        init: u32,
        name: &[u8],
    ) -> Result<(), Refusal> {
        if context == 0 || self.contexts.contains(context) {
            return Err(Refusal::Context);
        }
        if init & !CAPSET_MASK != 0 || init & CAPSET_MASK != self.renderer.capset().id {
            return Err(Refusal::Parameter);
        }
        if self.contexts.resources.len() >= MOST_CONTEXTS {
            return Err(Refusal::OutOfMemory);
        }
        self.renderer
            .create_context(context, name)
            .map_err(refusal)?;
        self.contexts.resources.insert(context, BTreeSet::new());
        Ok(())
    }

    /// Destroys a context. Its blobs stay until they are unreferenced.
    pub(super) fn destroy_context(&mut self, context: u32) -> Result<(), Refusal> {
        self.contexts.find(context)?;
        self.renderer.destroy_context(context);
        self.contexts.resources.remove(&context);
        Ok(())
    }

    /// Once is enough: a guest that opens a resource twice attaches it twice.
    pub(super) fn attach(&mut self, context: u32, resource: u32) -> Result<(), Refusal> {
        let rendered = self.resource(resource)?.is_rendered();
        if self.contexts.find(context)?.insert(resource) && rendered {
            self.renderer.attach(context, resource);
        }
        Ok(())
    }

    pub(super) fn detach(&mut self, context: u32, resource: u32) -> Result<(), Refusal> {
        let rendered = self.resource(resource)?.is_rendered();
        if !self.contexts.find(context)?.remove(&resource) {
            return Err(Refusal::Resource);
        }
        if rendered {
            self.renderer.detach(context, resource);
        }
        Ok(())
    }

    pub(super) fn submit(&mut self, context: u32, commands: &[u8]) -> Result<(), Refusal> {
        self.contexts.find(context)?;
        if !commands.len().is_multiple_of(4) {
            return Err(Refusal::Parameter);
        }
        if commands.is_empty() {
            // Linux sends a fence of its own this way.
            return Ok(());
        }
        self.renderer.submit(context, commands).map_err(refusal)
    }
}
