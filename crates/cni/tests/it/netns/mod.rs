//! Tests that make network namespaces.

mod attachments;
mod services;

/// Builds a lab, or says why not and returns.
macro_rules! lab {
    () => {
        match crate::lab::unavailable() {
            None => crate::lab::Lab::new().await,
            Some(why) => {
                println!("skipped: {why}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
        }
    };
}
pub(crate) use lab;
