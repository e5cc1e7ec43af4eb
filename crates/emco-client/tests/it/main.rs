//! Requests over real connections, beside those of EMCO's own command line.

#[cfg(test)]
mod emcoctl;
#[cfg(test)]
mod recorder;
