//! Connections over loopback.
