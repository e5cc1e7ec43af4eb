//! Who keeps the sealing key (`--seal`), and `/secrets-at-rest`: how the store is sealed, for administrators.

use std::{path::Path, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, request::Parts},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use clap::Args;
use drystone_apiserver::ApiServer;
use drystone_sealing::{
    KeySealer, SealedStore, SealingKey,
    keeper::{self, DEFAULT_PCRS, FileSealer, TpmSealer},
};

use crate::{
    admission::{admit, status},
    command::Failure,
};

/// Path of the front door.
pub(crate) const PATH: &str = "/secrets-at-rest";

/// What `--seal` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seal {
    /// In the data directory.
    File,
    /// In a TPM; how it is reached, if it is not the machine's.
    Tpm(Option<String>),
}

/// Reads `--seal`.
pub(crate) fn parse(text: &str) -> Result<Seal, String> {
    match text.split_once(':') {
        None if text == "file" => Ok(Seal::File),
        None if text == "tpm" => Ok(Seal::Tpm(None)),
        Some(("tpm", tcti)) if !tcti.is_empty() => Ok(Seal::Tpm(Some(tcti.to_owned()))),
        _ => Err("expected `file`, `tpm`, or `tpm:TCTI`, such as tpm:device:/dev/tpmrm0".to_owned()),
    }
}

/// Arguments.
#[derive(Debug, Clone, Args)]
pub(crate) struct SealArgs {
    /// Who keeps the key that secrets are encrypted under: a `file` in the data directory, or a TPM 2.0 (`tpm`, `tpm:TCTI`), into which a
    /// key that is in the file moves
    #[arg(long, value_name = "file|tpm[:TCTI]", default_value = "file", value_parser = parse)]
    pub(crate) seal: Seal,
    /// Registers of the TPM that must be as they were for it to give the key out
    #[arg(long, value_name = "BANK:PCR,…", default_value = DEFAULT_PCRS)]
    pub(crate) seal_pcrs: String,
}

/// The keepers of a data directory.
pub(crate) struct Keepers {
    /// The file.
    pub(crate) file: FileSealer,
    /// The TPM.
    pub(crate) tpm: TpmSealer,
}

impl Keepers {
    /// Of this directory of keys (`DATA/pki`).
    pub(crate) fn of(keys: &Path, seal: &Seal, pcrs: &str) -> Self {
        let tcti = match seal {
            Seal::Tpm(tcti) => tcti.clone(),
            Seal::File => None,
        };
        Self {
            file: FileSealer::new(keys.join("sealing-key")),
            tpm: TpmSealer::new(keys.join("tpm"), tcti, pcrs),
        }
    }

    /// The one that `--seal` names.
    pub(crate) fn named(&self, seal: &Seal) -> &dyn KeySealer {
        match seal {
            Seal::File => &self.file,
            Seal::Tpm(_) => &self.tpm,
        }
    }
}

/// The sealing key of a data directory; made at the first start.
pub(crate) fn open(args: &SealArgs, data: &Path) -> Result<SealingKey, Failure> {
    let keys = data.join("pki");
    let keepers = Keepers::of(&keys, &args.seal, &args.seal_pcrs);
    let key = match args.seal {
        Seal::File => keeper::open(&keys, &keepers.file, Some(&keepers.tpm), false)?,
        // From weaker to stronger keeping it moves by itself, never the other way.
        Seal::Tpm(_) => keeper::open(&keys, &keepers.tpm, Some(&keepers.file), true)?,
    };
    Ok(key)
}

/// The front door.
#[derive(Clone)]
struct Front {
    api: ApiServer,
    store: Arc<SealedStore>,
    /// Of AppContexts, if they have a store of their own.
    contexts: Option<Arc<SealedStore>>,
}

/// The routes.
pub(crate) fn router(api: ApiServer, store: Arc<SealedStore>, contexts: Option<Arc<SealedStore>>) -> Router {
    Router::new().route(PATH, get(show)).route(&format!("{PATH}/rotate"), post(rotate)).with_state(Front {
        api,
        store,
        contexts,
    })
}

impl Front {
    async fn answer(&self) -> Response {
        match self.store.status().await {
            Ok(found) => Json(found).into_response(),
            Err(error) => status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string()),
        }
    }
}

async fn show(State(front): State<Front>, parts: Parts) -> Response {
    match admit(&front.api, &parts, "get", PATH).await {
        Ok(()) => front.answer().await,
        Err(refusal) => refusal,
    }
}

async fn rotate(State(front): State<Front>, parts: Parts) -> Response {
    if let Err(refusal) = admit(&front.api, &parts, "post", PATH).await {
        return refusal;
    }
    if let Some(contexts) = &front.contexts
        && let Err(error) = contexts.rotate().await
    {
        return status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string());
    }
    match front.store.rotate().await {
        Ok(key) => {
            tracing::info!(%key, "Secrets are sealed with a new data key from now on, and the others are rewritten");
            front.answer().await
        }
        Err(error) => status(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepers_are_named_as_documented() {
        assert_eq!(parse("file"), Ok(Seal::File));
        assert_eq!(parse("tpm"), Ok(Seal::Tpm(None)));
        let tcti = "swtpm:host=127.0.0.1,port=2421";
        assert_eq!(parse(&format!("tpm:{tcti}")), Ok(Seal::Tpm(Some(tcti.to_owned()))));
        for wrong in ["", "tpm:", "file:x", "vault"] {
            assert!(parse(wrong).is_err_and(|why| why.contains("tpm:TCTI")), "{wrong}");
        }
    }
}
