//! The program as its users see it: started, called, stopped.

#[cfg(test)]
mod process;
#[cfg(test)]
mod up;
