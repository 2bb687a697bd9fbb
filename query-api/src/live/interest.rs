//! That somebody needs lanes to be followed: from before it is known where they are until the subscription is over.

use std::ops::Range;
use std::sync::Arc;

use super::hub::Hub;

/// Lanes are followed for as long as it lives.
pub struct Interest {
    hub: Arc<Hub>,
    lanes: Range<usize>,
}

impl Interest {
    /// In these lanes, by number.
    pub fn new(hub: &Arc<Hub>, lanes: Range<usize>) -> Self {
        hub.lanes[lanes.clone()]
            .iter()
            .for_each(super::lane::Lane::want);
        Self {
            hub: Arc::clone(hub),
            lanes,
        }
    }

    /// Who follows them.
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Their numbers.
    pub fn lanes(&self) -> Range<usize> {
        self.lanes.clone()
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        let lanes = &self.hub.lanes[self.lanes.clone()];
        lanes.iter().for_each(super::lane::Lane::let_go);
    }
}
