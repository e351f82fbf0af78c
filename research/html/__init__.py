"""Building blocks of all HTML pages: escaped markup, figures, one style sheet.

    markup      elements, tables and sections; all text is escaped except values of type Html
    chart       axes, grid and legend around marks, as inline SVG in the colours of the page, and as files
    marks       lines, bands, intervals, bars, points, heat maps, images, and values on hover
    document    a complete page that loads nothing from a network and runs no script
    theme       the style sheet, for light and dark screens, phones and print

A page is `document(title, join([section(...), ...]))`. For a new section, copy `research/report/slices.py`.
"""
