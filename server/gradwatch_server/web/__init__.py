"""What listens: ingest and live sockets, the API, pages, access. The only part of the server that speaks HTTP."""
