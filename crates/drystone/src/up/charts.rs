//! How charts are rendered, and where patches of generic intents may take values from.

use std::{path::Path, sync::Arc};

use clap::Args;
use drystone_charts::{Config, Renderer, Seal};
use drystone_emco::builtin::controllers::{Fetch, HttpValues};
use drystone_sealing::{SealingKey, cipher::Cipher};

use crate::command::Failure;

/// What renderings are encrypted for: nothing else opens them.
const PURPOSE: &str = "drystone chart renderings v1";
/// Where they are, in the data directory. What is there may be removed at any time.
const DIRECTORY: &str = "chart-renderings";

/// Arguments.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChartArgs {
    /// Render charts with this helm, of version 3, rather than with the first one in PATH that is called helm or helm3
    #[arg(long, value_name = "FILE", env = "DRYSTONE_HELM")]
    helm: Option<std::path::PathBuf>,
    /// Let JSON patches of generic intents take values, `$(http://…)$`, from these hosts; without it from none
    #[arg(long, value_name = "HOST[:PORT],…", value_delimiter = ',')]
    gac_values_from: Vec<String>,
}

impl ChartArgs {
    /// From where values of patches are fetched, if from anywhere.
    pub(super) fn values(&self) -> Result<Option<Arc<dyn Fetch>>, Failure> {
        if self.gac_values_from.is_empty() {
            return Ok(None);
        }
        Ok(Some(Arc::new(HttpValues::new(self.gac_values_from.clone())?)))
    }

    /// The renderer: what it makes is kept in the data directory, encrypted, for charts have Secrets among their manifests.
    pub(super) fn renderer(&self, data: &Path, sealing: &SealingKey) -> Result<Renderer, Failure> {
        Ok(Renderer::new(Config {
            helm: self.helm.clone(),
            directory: Some(data.join(DIRECTORY)),
            seal: Some(Arc::new(Sealed(sealing.cipher(PURPOSE)?))),
            ..Config::default()
        }))
    }
}

struct Sealed(Cipher);

impl Seal for Sealed {
    fn seal(&self, name: &str, text: &[u8]) -> Result<Vec<u8>, String> {
        self.0.seal(b"", text, name.as_bytes()).map_err(|error| error.to_string())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(sealed, name.as_bytes()).map(|text| text.to_vec())
    }
}
