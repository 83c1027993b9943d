"""`python -m onestep.cli`: the command line by the interpreter that runs."""

from onestep.cli.entry import main

main()
