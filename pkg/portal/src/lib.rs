//! IPv6 packets of ordinary programs to and from the overlay.
