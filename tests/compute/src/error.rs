//! Why the GPU did not do what it was asked to.

use ash::{LoadingError, prelude::VkResult, vk};

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no Vulkan loader.
    #[error("load libvulkan.so.1")]
    Loader(#[from] LoadingError),
    /// A Vulkan call failed.
    #[error("{call}")]
    Call {
        call: &'static str,
        #[source]
        source: vk::Result,
    },
    /// The loader knows no device.
    #[error("there is no Vulkan device")]
    NoDevice,
    /// The device cannot compute.
    #[error("{device} has no queue for compute work")]
    NoQueue { device: String },
    /// The device's memory cannot be mapped.
    #[error("{device} has no memory that the host sees and that is coherent")]
    NoMemory { device: String },
    /// The GPU computed something else.
    #[error("{what}: element {index} is {found:#x}, expected {expected:#x}")]
    Wrong {
        what: &'static str,
        index: usize,
        found: u32,
        expected: u32,
    },
    /// The GPU computed something else, in numbers.
    #[error("{what}: element {index} is {found}, expected {expected}")]
    WrongNumber {
        what: &'static str,
        index: usize,
        found: f32,
        expected: f32,
    },
    /// A timeline semaphore is elsewhere.
    #[error("{when}, the timeline stands at {found}, expected {expected}")]
    Timeline {
        when: &'static str,
        found: u64,
        expected: u64,
    },
    /// Work did not end.
    #[error("{what} did not end within {seconds} s")]
    Late { what: &'static str, seconds: u64 },
}

/// Names the call in the error.
pub(crate) trait During<T> {
    /// The value, or an error that says during which call.
    fn during(self, call: &'static str) -> Result<T, Error>;
}

impl<T> During<T> for VkResult<T> {
    fn during(self, call: &'static str) -> Result<T, Error> {
        self.map_err(|source| Error::Call { call, source })
    }
}

/// Fails at the first of `found` that is not `expected` for its index.
pub(crate) fn compare(
    what: &'static str,
    found: &[u32],
    expected: impl Fn(usize) -> u32,
) -> Result<(), Error> {
    for (index, &found) in found.iter().enumerate() {
        let expected = expected(index);
        if found != expected {
            return Err(Error::Wrong {
                what,
                index,
                found,
                expected,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Error, compare};

    #[test]
    fn the_first_wrong_element_is_named() {
        assert!(compare("words", &[7, 7], |_| 7).is_ok());
        let wrong = compare("words", &[0, 1, 9, 9], |index| [0, 1, 2, 3][index]);
        assert!(matches!(
            wrong,
            Err(Error::Wrong {
                index: 2,
                found: 9,
                expected: 2,
                ..
            })
        ));
    }
}
