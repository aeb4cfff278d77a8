package cluster

import "time"

// PollEvery is how often a waiting step looks again.
const PollEvery = 2 * time.Second
