"""`python -m streamheal`."""

from streamheal.cli.main import main

main()
