//! placeholder

pub mod apns;
pub mod fcm;
pub mod proxy;
