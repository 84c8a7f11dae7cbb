"""What is kept, in SQLite or PostgreSQL through SQLAlchemy Core: one file a family of tables."""
