//! The program as its users see it: started, called, stopped.

mod process;
mod up;
