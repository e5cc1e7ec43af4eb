//! The Redfish driver.
