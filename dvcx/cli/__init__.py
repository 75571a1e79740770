"""The face: the only room that parses, draws, asks and exits. One thin file per verb."""
