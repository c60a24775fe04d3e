"""When events are found: recall, precision, false alarms and delay of models that look at some frames only."""
