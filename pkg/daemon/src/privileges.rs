//! Rights that the daemon gives up before it hears anything from outside.
//!
//! Linux keeps capabilities for each thread, so this runs while there is one. What is needed for a moment more, to open
//! ports below 1024, stays with the first thread alone: others drop it as they start, and the first when all ports
//! are open.

use std::collections::HashSet;

use caps::{CapSet, Capability, CapsHashSet};

/// What this process still needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needs {
    /// A TUN device, its address and its route.
    pub(crate) portal: bool,
    /// Ports below 1024, until they are open.
    pub(crate) low_ports: bool,
}

/// Why rights could not be given up. Going on with them would be worse than not starting.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up privileges ({what}): {text}")]
pub struct PrivilegeError {
    what: &'static str,
    text: String,
}

impl Needs {
    fn keep(self) -> CapsHashSet {
        let mut keep = HashSet::new();
        if self.portal {
            keep.insert(Capability::CAP_NET_ADMIN);
        }
        if self.low_ports {
            keep.insert(Capability::CAP_NET_BIND_SERVICE);
        }
        keep
    }
}

/// Gives up every capability but what `needs` names, for this thread and all that it starts, and the way back to
/// more through other programs.
pub(crate) fn limit(needs: Needs) -> Result<(), PrivilegeError> {
    let error = |what| move |error: caps::errors::CapsError| PrivilegeError { what, text: error.to_string() };
    let held = caps::read(None, CapSet::Permitted).map_err(error("read"))?;
    let keep: CapsHashSet = needs.keep().intersection(&held).copied().collect();
    if held.contains(&Capability::CAP_SETPCAP) {
        let bounding = caps::read(None, CapSet::Bounding).map_err(error("bounding"))?;
        for capability in bounding.difference(&keep) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(error("bounding"))?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(error("ambient"))?;
    caps::clear(None, CapSet::Inheritable).map_err(error("inheritable"))?;
    caps::set(None, CapSet::Effective, &keep).map_err(error("effective"))?;
    caps::set(None, CapSet::Permitted, &keep).map_err(error("permitted"))?;
    nix::sys::prctl::set_no_new_privs()
        .map_err(|error| PrivilegeError { what: "no_new_privs", text: error.to_string() })
}

/// Gives up the right to ports below 1024, for this thread. A thread that never had it is no error.
pub(crate) fn drop_low_ports() -> Result<(), PrivilegeError> {
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::drop(None, set, Capability::CAP_NET_BIND_SERVICE)
            .map_err(|error| PrivilegeError { what: "low ports", text: error.to_string() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In a thread of its own, which is what capabilities belong to.
    fn in_a_thread(needs: Needs) -> (CapsHashSet, CapsHashSet) {
        let thread = std::thread::spawn(move || {
            limit(needs).expect("giving up is always allowed");
            let held = caps::read(None, CapSet::Permitted).expect("readable");
            drop_low_ports().expect("giving up is always allowed");
            (held, caps::read(None, CapSet::Effective).expect("readable"))
        });
        thread.join().expect("no panic")
    }

    #[test]
    fn only_what_is_needed_stays_and_low_ports_go_at_last() {
        let held = caps::read(None, CapSet::Permitted).expect("readable");
        let (kept, last) = in_a_thread(Needs { portal: true, low_ports: true });
        let both = HashSet::from([Capability::CAP_NET_ADMIN, Capability::CAP_NET_BIND_SERVICE]);
        assert_eq!(kept, both.intersection(&held).copied().collect());
        assert!(last.is_subset(&HashSet::from([Capability::CAP_NET_ADMIN])), "{last:?}");
        let (kept, _) = in_a_thread(Needs { portal: false, low_ports: false });
        assert!(kept.is_empty(), "{kept:?}");
    }
}
