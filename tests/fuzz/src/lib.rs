//! Fuzz targets as functions, and the corpus as tests.
