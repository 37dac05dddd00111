//! Where truth lives: records in SQLite, content-addressed blobs in a directory.
