//! Contexts: which there are, and which resources each may use.

use std::collections::{BTreeSet, HashMap};

use super::{Control, MOST_CONTEXTS, refusal};
use crate::devices::gpu::protocol::Refusal;
use crate::devices::gpu::renderer::Capset;

/// The low byte of a context's `init` is its capability set; the rest is reserved.
const CAPSET_MASK: u32 = 0xff;

/// A context.
#[derive(Debug)]
struct Context {
    capset: u32,
    resources: BTreeSet<u32>,
}

/// The contexts.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    known: HashMap<u32, Context>,
}

impl Contexts {
    pub(super) fn contains(&self, context: u32) -> bool {
        self.known.contains_key(&context)
    }

    /// Whether it is one of OpenGL's, whose commands are done in the device's own order.
    pub(super) fn is_opengl(&self, context: u32) -> bool {
        let known = self.known.get(&context);
        known.is_some_and(|context| context.capset != Capset::VENUS)
    }

    /// The resources that a context may use.
    pub(super) fn find(&mut self, context: u32) -> Result<&mut BTreeSet<u32>, Refusal> {
        let known = self.known.get_mut(&context).ok_or(Refusal::Context)?;
        Ok(&mut known.resources)
    }

    pub(super) fn ids(&self) -> Vec<u32> {
        self.known.keys().copied().collect()
    }

    /// A resource is gone.
    pub(super) fn forget(&mut self, resource: u32) {
        for context in self.known.values_mut() {
            context.resources.remove(&resource);
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
        if init & !CAPSET_MASK != 0 {
            return Err(Refusal::Parameter);
        }
        // Drivers that know of no capability sets speak OpenGL.
        let capset = match init {
            0 => Capset::VIRGL2,
            capset => capset,
        };
        self.find_capset(capset)?;
        if self.contexts.known.len() >= MOST_CONTEXTS {
            return Err(Refusal::OutOfMemory);
        }
        self.renderer
            .create_context(context, capset, name)
            .map_err(refusal)?;
        let made = Context {
            capset,
            resources: BTreeSet::new(),
        };
        self.contexts.known.insert(context, made);
        Ok(())
    }

    /// Destroys a context. Its blobs stay until they are unreferenced.
    pub(super) fn destroy_context(&mut self, context: u32) -> Result<(), Refusal> {
        self.contexts.find(context)?;
        self.renderer.destroy_context(context);
        self.contexts.known.remove(&context);
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
