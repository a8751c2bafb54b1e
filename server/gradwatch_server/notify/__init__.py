"""Messages about alerts: made in the commit that stores the alert, kept until they are delivered or given up."""
