//! The repository's rules about itself. All of them are tests, in `tests/`.
