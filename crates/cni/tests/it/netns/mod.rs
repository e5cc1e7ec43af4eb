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
                return;
            }
        }
    };
}
pub(crate) use lab;
