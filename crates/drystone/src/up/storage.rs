//! Where objects are kept: `--store`.

use std::{path::Path, sync::Arc};

use drystone_appcontext::codec::CONTEXTS;
use drystone_sealing::{
    SealedStore, SealingKey,
    store::{SECRETS, open_embedded, open_etcd},
};
use drystone_store::{
    embedded::Options,
    etcd::{EtcdOptions, EtcdStore, EtcdTls, EtcdUser},
};

use super::UpArgs;
use crate::command::Failure;

/// What `--store` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In the data directory.
    Embedded,
    /// In etcd, at these URLs.
    Etcd(Vec<String>),
}

/// Reads `--store`.
pub(crate) fn parse(text: &str) -> Result<Storage, String> {
    if text == "embedded" {
        return Ok(Storage::Embedded);
    }
    let Some(list) = text.strip_prefix("etcd=") else {
        return Err("expected `embedded` or `etcd=URL,URL…`, such as etcd=http://127.0.0.1:2379".to_owned());
    };
    urls(list).map(Storage::Etcd)
}

/// Reads `URL,URL…`.
pub(super) fn urls(list: &str) -> Result<Vec<String>, String> {
    let urls: Vec<String> = list.split(',').map(str::trim).map(str::to_owned).collect();
    match urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        Some(url) => Err(format!("{url:?} is no URL such as http://127.0.0.1:2379")),
        None => Ok(urls),
    }
}

/// Opens the store, with Secrets sealed.
pub(crate) async fn open(
    args: &UpArgs,
    data: &Path,
    sealing: &SealingKey,
) -> Result<Arc<SealedStore>, Failure> {
    match &args.store {
        Storage::Embedded => {
            let directory = data.join("store");
            drystone_identity::files::private_directory(&directory)?;
            let file = directory.join("drystone.redb");
            Ok(open_embedded(&file, Options::default(), sealing, &[SECRETS]).await?)
        }
        Storage::Etcd(urls) => {
            let options = etcd(urls, args)?;
            let store = EtcdStore::new(&options)?;
            store.check().await.map_err(|error| format!("--store {}: {error}", urls.join(",")))?;
            // AppContexts have Secrets in them too. In an etcd of their own they are as EMCO has them.
            let sealed: &[&str] =
                if args.contexts.appcontext_etcd.is_some() { &[SECRETS] } else { &[SECRETS, CONTEXTS] };
            Ok(open_etcd(&store, sealing, sealed).await?)
        }
    }
}

/// How an etcd is reached.
pub(super) fn etcd(urls: &[String], args: &UpArgs) -> Result<EtcdOptions, Failure> {
    let mut options = EtcdOptions::new(urls.to_vec());
    options.tls = tls(args)?;
    if let (Some(name), Some(file)) = (&args.etcd_user, &args.etcd_password_file) {
        let password = std::fs::read_to_string(file)
            .map_err(|error| format!("--etcd-password-file {}: {error}", file.display()))?;
        options.user = Some(EtcdUser { name: name.clone(), password: password.trim().to_owned() });
    }
    Ok(options)
}

fn tls(args: &UpArgs) -> Result<Option<EtcdTls>, Failure> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| format!("reading {}: {error}", path.display()))
    };
    let Some(authority) = &args.etcd_ca else { return Ok(None) };
    let identity_pem = match (&args.etcd_cert, &args.etcd_key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(Some(EtcdTls { authority_pem: read(authority)?, identity_pem }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_named_as_documented() {
        assert_eq!(parse("embedded"), Ok(Storage::Embedded));
        let urls = ["http://127.0.0.1:2379", "https://etcd-2:2379"].map(str::to_owned);
        assert_eq!(parse("etcd=http://127.0.0.1:2379, https://etcd-2:2379"), Ok(Storage::Etcd(urls.into())));
        assert!(parse("etcd=127.0.0.1:2379").is_err_and(|why| why.contains("127.0.0.1:2379")));
        assert!(parse("postgres=x").is_err_and(|why| why.contains("expected")));
        assert!(parse("etcd=").is_err());
    }
}
