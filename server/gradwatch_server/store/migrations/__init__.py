"""Migrations of the database, one file each in ``versions``, oldest first."""
