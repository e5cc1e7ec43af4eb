//! Address management on a node: which attachment has which address of the blocks that the node leased.
//!
//! An address is never given to two attachments: every change is in the [journal](self) and synced to disk before it is
//! answered, and a journal that a crash tore is read up to the tear, which no one was answered about. Asking twice for the
//! same attachment gives the same address. Released addresses rest as long as possible before they are given again.

mod block;
mod journal;

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;

use self::{block::Block, journal::Journal};
use crate::protocol::Attachment;

pub use journal::JournalError;

/// Addresses that cannot be given.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// All are in use.
    #[error("no address is free: all {used} of {blocks} are in use; delete pods or lease another block")]
    Exhausted {
        /// Addresses in use.
        used: usize,
        /// The blocks.
        blocks: String,
    },
    /// The node has no block yet.
    #[error("the node has no block of pod addresses yet")]
    NoBlock,
    /// The change could not be made durable; it was not made.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What an attachment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its network namespace, when it was attached.
    pub network_namespace: Option<PathBuf>,
}

/// The addresses of a node.
#[derive(Debug)]
pub struct AddressManager {
    blocks: Vec<Block>,
    holdings: BTreeMap<Attachment, Holding>,
    /// The address given last; the search for the next one begins behind it.
    last: Option<Ipv4Addr>,
    journal: Journal,
}

impl AddressManager {
    /// Opens or makes the journal at `path`. There are no blocks yet.
    ///
    /// # Errors
    /// [`JournalError`] if the file cannot be read or written, or another process has it open.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let (journal, replayed) = Journal::open(path)?;
        Ok(Self { blocks: Vec::new(), holdings: replayed.holdings, last: replayed.last, journal })
    }

    /// Gives addresses out of these blocks from now on. Addresses of other blocks stay held until they are released.
    pub fn set_blocks(&mut self, blocks: &[Ipv4Net]) {
        self.blocks = blocks.iter().copied().map(Block::new).collect();
        for holding in self.holdings.values() {
            take(&mut self.blocks, holding.address);
        }
    }

    /// The blocks that addresses are given out of.
    pub fn blocks(&self) -> Vec<Ipv4Net> {
        self.blocks.iter().map(Block::network).collect()
    }

    /// What each attachment holds.
    pub fn holdings(&self) -> &BTreeMap<Attachment, Holding> {
        &self.holdings
    }

    /// How many more addresses can be given.
    pub fn free(&self) -> usize {
        self.blocks.iter().map(Block::free).sum()
    }

    /// The address of an attachment: the one it has, else a free one. It is on disk when this returns.
    ///
    /// # Errors
    /// [`IpamError`] if none is free, or it could not be written down.
    pub fn allocate(
        &mut self,
        attachment: &Attachment,
        network_namespace: Option<&Path>,
    ) -> Result<Ipv4Addr, IpamError> {
        if let Some(holding) = self.holdings.get(attachment) {
            return Ok(holding.address);
        }
        let address = self.find_free()?;
        let holding = Holding { address, network_namespace: network_namespace.map(Path::to_owned) };
        self.journal.allocated(attachment, &holding)?;
        take(&mut self.blocks, address);
        self.last = Some(address);
        self.holdings.insert(attachment.clone(), holding);
        self.compact_if_worthwhile();
        Ok(address)
    }

    /// Frees the address of an attachment and returns it; none if it has none. That is on disk when this returns.
    ///
    /// # Errors
    /// [`JournalError`] if it could not be written down.
    pub fn release(&mut self, attachment: &Attachment) -> Result<Option<Ipv4Addr>, JournalError> {
        if !self.holdings.contains_key(attachment) {
            return Ok(None);
        }
        self.journal.released(attachment)?;
        let holding = self.holdings.remove(attachment);
        let address = holding.map(|holding| holding.address);
        if let Some(address) = address {
            self.blocks.iter_mut().for_each(|block| block.put_back(address));
        }
        self.compact_if_worthwhile();
        Ok(address)
    }

    fn find_free(&self) -> Result<Ipv4Addr, IpamError> {
        if self.blocks.is_empty() {
            return Err(IpamError::NoBlock);
        }
        // Begin with the block of the address given last, behind it; end with the same block, before it.
        let start = self
            .last
            .and_then(|last| self.blocks.iter().position(|block| block.network().contains(&last)))
            .unwrap_or(0);
        let order = (0..=self.blocks.len()).map(|step| (start + step) % self.blocks.len());
        let found = order.enumerate().find_map(|(step, index)| {
            let behind = self.last.filter(|_| step == 0);
            self.blocks.get(index)?.find_free(behind)
        });
        found.ok_or_else(|| {
            let networks: Vec<String> = self.blocks.iter().map(|block| block.network().to_string()).collect();
            IpamError::Exhausted { used: self.holdings.len(), blocks: networks.join(", ") }
        })
    }

    fn compact_if_worthwhile(&mut self) {
        if let Err(error) = self.journal.compact_if_worthwhile(&self.holdings, self.last) {
            tracing::warn!(%error, "the address journal could not be compacted; it grows until it can");
        }
    }
}

fn take(blocks: &mut [Block], address: Ipv4Addr) {
    blocks.iter_mut().for_each(|block| block.take(address));
}

#[cfg(test)]
mod tests;
