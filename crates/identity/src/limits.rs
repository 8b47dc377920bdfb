//! Bounds of certificates, tokens and their files. Units stand last in each name.

/// How long a certificate authority is valid, in days: a new one means new certificates everywhere.
pub const AUTHORITY_DAYS: u32 = 3_650;
/// How long a certificate is valid unless said otherwise, in days. Nothing revokes one: it should not live long.
pub const CERTIFICATE_DAYS: u32 = 397;
/// A certificate is valid from so many minutes before it was issued: clocks differ.
pub const BACKDATE_MINUTES: i64 = 60;
/// Longest name in a certificate or of a token.
pub const NAME_BYTES_MAX: usize = 64;
/// Hosts in one certificate.
pub const HOSTS_MAX: usize = 64;
/// Largest file of certificates, or of a key.
pub const PEM_FILE_BYTES_MAX: u64 = 1 << 20;
/// Random bytes in a token. So many cannot be guessed, so one round of SHA-256 without salt is as good as any slow hash.
pub const TOKEN_BYTES: usize = 32;
/// Tokens in one file.
pub const TOKENS_MAX: usize = 10_000;
/// Largest file of tokens.
pub const TOKEN_FILE_BYTES_MAX: u64 = 4 << 20;
/// A file that was read so shortly after it was written is read again: the next change may bear the same time, in
/// milliseconds.
pub const SETTLED_MS: u64 = 1_000;

const _: () = {
    assert!(CERTIFICATE_DAYS < AUTHORITY_DAYS);
    assert!(TOKEN_BYTES * 8 >= 256);
    assert!(TOKENS_MAX as u64 * 300 < TOKEN_FILE_BYTES_MAX, "every entry fits");
};
