"""Which model is which: the gate's verdict, promotion by git tags, and the champion that runs are judged against."""
