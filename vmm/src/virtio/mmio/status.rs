//! The device status register's state machine: virtio 1.2, sections 2.1 and 3.1.1.
//!
//! Called by the transport with whatever the guest writes. The driver's steps come in one order
//! (ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK), none is taken back but by a reset, and a
//! write that does otherwise changes nothing.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
};

/// The status register.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Status(u32);

/// The driver's steps, in order.
const STEPS: [u32; 4] = [
    VIRTIO_CONFIG_S_ACKNOWLEDGE,
    VIRTIO_CONFIG_S_DRIVER,
    VIRTIO_CONFIG_S_FEATURES_OK,
    VIRTIO_CONFIG_S_DRIVER_OK,
];

/// What a write to the register asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Request {
    /// Back to the beginning.
    Reset,
    /// Steps forward: which of the two that need the device's consent are among them.
    Advance { features_ok: bool, driver_ok: bool },
    /// The driver gave up.
    Fail,
    /// Nothing new, or nothing legal.
    Ignore,
}

impl Status {
    /// The register's value.
    pub(super) fn bits(self) -> u32 {
        self.0
    }

    /// What writing `value` asks for in this state.
    pub(super) fn request(self, value: u32) -> Request {
        if value == 0 {
            return Request::Reset;
        }
        let stuck = VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET;
        let takes_back = self.0 & !value != 0;
        if self.0 & stuck != 0 || takes_back {
            return Request::Ignore;
        }
        if value & VIRTIO_CONFIG_S_FAILED != 0 {
            return Request::Fail;
        }
        let mut through = 0;
        let in_order = STEPS.iter().any(|step| {
            through |= step;
            through == value
        });
        if !in_order || value == self.0 {
            return Request::Ignore;
        }
        let new = value & !self.0;
        Request::Advance {
            features_ok: new & VIRTIO_CONFIG_S_FEATURES_OK != 0,
            driver_ok: new & VIRTIO_CONFIG_S_DRIVER_OK != 0,
        }
    }

    /// Takes the steps that need nobody's consent among those that `value` asks for.
    pub(super) fn take_free_steps(&mut self, value: u32) {
        self.0 |= value & (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
    }

    pub(super) fn set_features_ok(&mut self) {
        self.0 |= VIRTIO_CONFIG_S_FEATURES_OK;
    }

    pub(super) fn set_driver_ok(&mut self) {
        self.0 |= VIRTIO_CONFIG_S_DRIVER_OK;
    }

    pub(super) fn set_needs_reset(&mut self) {
        self.0 |= VIRTIO_CONFIG_S_NEEDS_RESET;
    }

    pub(super) fn set_failed(&mut self) {
        self.0 |= VIRTIO_CONFIG_S_FAILED;
    }

    /// The driver has found the device and may negotiate features now.
    pub(super) fn negotiating(self) -> bool {
        self.0 == VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER
    }

    /// Features are agreed upon and the device does not run yet: queues may be set up now.
    pub(super) fn configuring(self) -> bool {
        self.0 == VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK
    }

    /// A driver has found the device, and neither side has given up.
    pub(super) fn driven(self) -> bool {
        self.0 & VIRTIO_CONFIG_S_DRIVER != 0
            && self.0 & (VIRTIO_CONFIG_S_FAILED | VIRTIO_CONFIG_S_NEEDS_RESET) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_in_order_one_by_one_or_together() {
        assert_eq!(
            Status(0).request(1),
            Request::Advance {
                features_ok: false,
                driver_ok: false
            }
        );
        assert_eq!(
            Status(3).request(11),
            Request::Advance {
                features_ok: true,
                driver_ok: false
            }
        );
        assert_eq!(
            Status(0).request(15),
            Request::Advance {
                features_ok: true,
                driver_ok: true
            }
        );
    }

    #[test]
    fn what_is_out_of_order_is_ignored() {
        for (state, written) in [
            (0, 2),
            (0, 4),
            (1, 5),
            (3, 7),
            (3, 1),
            (11, 3),
            (15, 11),
            (3, 3),
            (3, 3 | 16),
        ] {
            assert_eq!(
                Status(state).request(written),
                Request::Ignore,
                "{state} -> {written}"
            );
        }
    }

    #[test]
    fn only_a_reset_leads_out_of_failure() {
        for state in [3 | 128, 15 | 64] {
            for written in [state | 4, state, 15, 128] {
                assert_eq!(Status(state).request(written), Request::Ignore);
            }
            assert_eq!(Status(state).request(0), Request::Reset);
        }
        assert_eq!(Status(3).request(3 | 128), Request::Fail);
    }
}
