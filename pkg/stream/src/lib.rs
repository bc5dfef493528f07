//! Reliable byte streams on messages.
