"""The methods, and what the stages share: functions over arrays and blocks of rows; every path is an argument."""
