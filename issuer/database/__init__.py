"""What is kept, in SQLite or PostgreSQL through SQLAlchemy Core: one file for each group of tables."""
