"""From report.json to what a person reads: pages, junit.xml, the terminal's table, an index."""
