package yaml

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/fleetd/fleetd/pkg/value"
)

var timestampPattern = regexp.MustCompile(`^(?:[0-9]{4}-[0-9]{2}-[0-9]{2}` +
	`|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?` +
	`(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?)$`)

var timestampParts = regexp.MustCompile(`^([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})` +
	`(?:(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(Z|([-+])([0-9]{1,2})(?::([0-9]{2}))?))?)?$`)

func constructTimestamp(s string) (any, bool) {
	m := timestampParts.FindStringSubmatch(s)
	if m == nil {
		return nil, false
	}
	num := func(i int) int { n, _ := strconv.Atoi(m[i]); return n }
	y, mo, d := num(1), num(2), num(3)
	if y < 1 || mo < 1 || mo > 12 || d < 1 || d > daysIn(y, mo) {
		return nil, false
	}
	date := fmt.Sprintf("%04d-%02d-%02d", y, mo, d)
	if m[4] == "" {
		return value.Timestamp{ISO: date, Str: date, Repr: fmt.Sprintf("datetime.date(%d, %d, %d)", y, mo, d)}, true
	}
	h, mi, sec := num(4), num(5), num(6)
	if h > 23 || mi > 59 || sec > 59 {
		return nil, false
	}
	clock := fmt.Sprintf("%02d:%02d:%02d", h, mi, sec)
	repr := fmt.Sprintf("datetime.datetime(%d, %d, %d, %d, %d", y, mo, d, h, mi)
	frac := 0
	if m[7] != "" {
		frac, _ = strconv.Atoi((m[7] + "000000")[:6])
	}
	if sec != 0 || frac != 0 {
		repr += fmt.Sprintf(", %d", sec)
	}
	if frac != 0 {
		clock += fmt.Sprintf(".%06d", frac)
		repr += fmt.Sprintf(", %d", frac)
	}
	if m[8] != "" {
		zone := "+00:00"
		offset := 0
		if m[9] != "" {
			offset = num(10)*60 + num(11)
			if offset >= 24*60 {
				return nil, false
			}
			sign := m[9]
			if offset == 0 {
				sign = "+"
			}
			zone = fmt.Sprintf("%s%02d:%02d", sign, offset/60, offset%60)
			if m[9] == "-" {
				offset = -offset
			}
		}
		clock += zone
		repr += ", tzinfo=" + pyTimezone(offset)
	}
	return value.Timestamp{ISO: date + "T" + clock, Str: date + " " + clock, Repr: repr + ")"}, true
}

// pyTimezone is Python's repr of a fixed offset in minutes.
func pyTimezone(minutes int) string {
	if minutes == 0 {
		return "datetime.timezone.utc"
	}
	if minutes > 0 {
		return fmt.Sprintf("datetime.timezone(datetime.timedelta(seconds=%d))", minutes*60)
	}
	return fmt.Sprintf("datetime.timezone(datetime.timedelta(days=-1, seconds=%d))", 86400+minutes*60)
}

func daysIn(year, month int) int {
	return time.Date(year, time.Month(month)+1, 0, 0, 0, 0, 0, time.UTC).Day()
}
