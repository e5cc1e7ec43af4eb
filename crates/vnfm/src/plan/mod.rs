//! Pure: an operation becomes a plan of steps; an inventory becomes what SOL003 shows of it.
