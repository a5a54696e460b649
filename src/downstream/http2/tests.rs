//! Frames of the server, as a sender sees them.
