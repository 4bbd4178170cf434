//! Fences: which buffers wait for which.
//!
//! virglrenderer signals in threads of its own and may skip numbers, so a signal stands for all
//! fences of its ring with a number as high or lower. The numbers are `control`'s and never
//! come again, so a late signal of a context that is gone concerns nobody.

use std::collections::{HashMap, VecDeque};

use super::renderer::Fence;

/// Buffers that wait, by context and ring. `T` is what the queue's server needs to return one.
#[derive(Debug)]
pub(super) struct Fences<T> {
    rings: HashMap<(u32, u8), VecDeque<(u64, T)>>,
    waiting: usize,
}

impl<T> Fences<T> {
    pub(super) fn new() -> Self {
        Self {
            rings: HashMap::new(),
            waiting: 0,
        }
    }

    /// How many buffers wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Keeps a buffer until its fence, the newest of the ring, is signalled.
    pub(super) fn wait(&mut self, fence: Fence, buffer: T) {
        let ring = self.rings.entry((fence.context, fence.ring)).or_default();
        ring.push_back((fence.id, buffer));
        self.waiting += 1;
    }

    /// The fence and those before it on its ring are done; returns the buffers that waited.
    pub(super) fn signal(&mut self, fence: Fence) -> Vec<T> {
        let Some(ring) = self.rings.get_mut(&(fence.context, fence.ring)) else {
            return Vec::new();
        };
        let count = ring.partition_point(|(id, _)| *id <= fence.id);
        let done: Vec<T> = ring.drain(..count).map(|(_, buffer)| buffer).collect();
        self.waiting -= done.len();
        done
    }

    /// The context is gone: nothing will signal what waits there.
    pub(super) fn forget(&mut self, context: u32) -> Vec<T> {
        let gone: Vec<T> = self
            .rings
            .extract_if(|(owner, _), _| *owner == context)
            .flat_map(|(_, ring)| ring)
            .map(|(_, buffer)| buffer)
            .collect();
        self.waiting -= gone.len();
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(context: u32, ring: u8, id: u64) -> Fence {
        Fence { context, ring, id }
    }

    #[test]
    fn a_signal_stands_for_those_before_it_on_its_ring() {
        let mut fences = Fences::new();
        for (context, ring, id) in [(1, 0, 5), (1, 0, 6), (1, 1, 7), (2, 0, 8), (1, 0, 9)] {
            fences.wait(fence(context, ring, id), id);
        }
        assert_eq!(fences.signal(fence(1, 0, 8)), [5, 6]);
        // Out of order: an older one says nothing new.
        assert!(fences.signal(fence(1, 0, 5)).is_empty());
        assert_eq!(fences.signal(fence(1, 0, u64::MAX)), [9]);
        assert!(fences.signal(fence(3, 0, u64::MAX)).is_empty());
        assert_eq!(fences.waiting(), 2);
        assert_eq!(fences.forget(1), [7]);
        assert!(fences.forget(1).is_empty());
        assert_eq!(fences.signal(fence(2, 0, 8)), [8]);
        assert_eq!(fences.waiting(), 0);
    }
}
