//! Job files that are refused: each code, with its place, message and help.
