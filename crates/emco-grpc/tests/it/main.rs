//! The contract as both of its halves see it, over real connections.

#[cfg(test)]
mod calls;
#[cfg(test)]
mod contexts;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod pool;
#[cfg(test)]
mod provider;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tls;
