"""How far people agree, with each other and with themselves, and who of them is to be relied on."""
