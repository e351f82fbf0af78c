"""The drawing kit of every page: markup that escapes, figures, one look.

    markup      elements, tables, sections; text from a run is escaped, and only Html passes as it is
    figure      matplotlib figures as inline SVG in the page's colours, and as PNG
    document    a whole page that fetches and runs nothing
    theme       its style sheet: light, dark, print, telephone

A page is `document(title, join([section(...), ...]))`; `research/report/slices.py` is a small part of one to copy.
"""
