"""Make HTML pages, junit.xml, the terminal's table and an index page from report.json."""
