"""From the bytes of a page to its main text: encoding, HTML, Markdown, language, words."""
