//! The account of a management controller by Redfish. Source: DSP0266, `AccountService` and `ManagerAccount`.

use std::time::Duration;

use drystone_redfish::client::{CertificateCheck, Client, Options, RedfishError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Accounts, exchange::Account};
use crate::{
    driver::{Answer, Credentials, DriverError},
    model::{BmcAddress, Protocol},
};

const SERVICE: &str = "/redfish/v1/AccountService";
/// Limits of a request.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// Reaches accounts by Redfish.
#[derive(Debug, Clone, Copy, Default)]
pub struct RedfishAccounts;

impl Accounts for RedfishAccounts {
    fn open(&self, address: &BmcAddress, verify_tls: bool) -> Result<Box<dyn Account>, DriverError> {
        if address.scheme.protocol != Protocol::Redfish {
            return Err(DriverError::Refused {
                host: address.base.to_string(),
                doing: "changing the password".to_owned(),
                reason: "its address is none of a Redfish service".to_owned(),
            });
        }
        Ok(Box::new(RedfishAccount { base: address.base.to_string(), verify_tls }))
    }
}

struct RedfishAccount {
    base: String,
    verify_tls: bool,
}

#[derive(Deserialize)]
struct Link {
    #[serde(rename = "@odata.id")]
    uri: String,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "Accounts")]
    accounts: Link,
}

impl RedfishAccount {
    /// Every use logs in anew: a session outlives the password that it was begun with, and would show nothing.
    fn client(&self, credentials: &Credentials) -> Result<Client, DriverError> {
        let check = if self.verify_tls { CertificateCheck::Platform } else { CertificateCheck::Disabled };
        let options = Options::new(self.base.as_str())
            .credentials(&credentials.username, &credentials.password)
            .certificates(check)
            .timeouts(CONNECT_LIMIT, REQUEST_LIMIT);
        Client::new(options).map_err(|error| self.error("reading the address", &error))
    }

    fn error(&self, doing: &str, error: &RedfishError) -> DriverError {
        let host = self.base.clone();
        match error {
            RedfishError::Unauthorized { .. } => DriverError::Unauthorized { host },
            error if error.is_transient() => DriverError::Unreachable { host, reason: error.to_string() },
            _ => DriverError::Refused { host, doing: doing.to_owned(), reason: error.to_string() },
        }
    }

    async fn look(&self, credentials: &Credentials) -> Result<(), DriverError> {
        let client = self.client(credentials)?;
        // The root would be shown to anybody.
        let found = client.get(SERVICE).await;
        client.log_out().await;
        found.map(drop).map_err(|error| self.error("logging in", &error))
    }

    async fn set(&self, credentials: &Credentials, password: &str) -> Result<(), DriverError> {
        let client = self.client(credentials)?;
        let changed = self.set_with(&client, &credentials.username, password).await;
        client.log_out().await;
        changed
    }

    async fn set_with(&self, client: &Client, user: &str, password: &str) -> Result<(), DriverError> {
        let reading = |error: RedfishError| self.error("finding the account", &error);
        let service = client.get_as::<Service>(SERVICE).await.map_err(reading)?;
        for uri in client.members(&service.value.accounts.uri).await.map_err(reading)? {
            let account = client.get(&uri).await.map_err(reading)?;
            if account.body.get("UserName").and_then(Value::as_str) != Some(user) {
                continue;
            }
            let body = json!({"Password": password});
            let done = client.patch(&uri, &body, account.etag.as_ref()).await;
            return done.map(drop).map_err(|error| self.error("changing the password", &error));
        }
        Err(DriverError::Refused {
            host: self.base.clone(),
            doing: "changing the password".to_owned(),
            reason: format!("it lists no account of user {user}"),
        })
    }
}

impl Account for RedfishAccount {
    fn log_in<'a>(&'a self, credentials: &'a Credentials) -> Answer<'a, ()> {
        Box::pin(self.look(credentials))
    }

    fn change<'a>(&'a self, credentials: &'a Credentials, password: &'a str) -> Answer<'a, ()> {
        Box::pin(self.set(credentials, password))
    }
}
