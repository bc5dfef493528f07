//! The core that joins links, routing and sessions, and its driver.
