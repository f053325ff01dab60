"""The server's end of the nodes' links: sessions and their streams; orders out, reports in."""
