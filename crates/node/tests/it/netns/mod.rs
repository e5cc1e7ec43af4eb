//! Tests that make network namespaces.

mod dns;
mod lab;
mod networking;

/// Builds a lab, or says why not and returns.
macro_rules! make_lab {
    () => {
        match crate::netns::lab::unavailable() {
            None => crate::netns::lab::Lab::new().await,
            Some(why) => {
                println!("skipped: {why}");
                assert!(std::env::var_os("CI").is_none(), "must not be skipped in CI");
                return;
            }
        }
    };
}
pub(crate) use make_lab;
