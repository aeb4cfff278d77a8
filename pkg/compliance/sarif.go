package compliance

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/fleetd/fleetd/pkg/rollout"
)

// The objects and properties are those of SARIF 2.1.0, OASIS Standard, section 3.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool        sarifTool         `json:"tool"`
		Invocations []sarifInvocation `json:"invocations"`
		Results     []sarifResult     `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name           string      `json:"name"`
		InformationURI string      `json:"informationUri"`
		Rules          []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID                   string     `json:"id"`
		Name                 string     `json:"name,omitempty"`
		ShortDescription     sarifText  `json:"shortDescription"`
		Help                 *sarifText `json:"help,omitempty"`
		DefaultConfiguration sarifLevel `json:"defaultConfiguration"`
	}
	sarifLevel struct {
		Level string `json:"level"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifInvocation struct {
		ExecutionSuccessful bool                `json:"executionSuccessful"`
		EndTimeUTC          string              `json:"endTimeUtc"`
		Notifications       []sarifNotification `json:"toolExecutionNotifications,omitempty"`
	}
	sarifNotification struct {
		Level     string          `json:"level"`
		Message   sarifText       `json:"message"`
		Locations []sarifLocation `json:"locations,omitempty"`
	}
	sarifResult struct {
		RuleID              string             `json:"ruleId"`
		RuleIndex           int                `json:"ruleIndex"`
		Kind                string             `json:"kind"`
		Level               string             `json:"level"`
		Message             sarifText          `json:"message"`
		Locations           []sarifLocation    `json:"locations"`
		PartialFingerprints map[string]string  `json:"partialFingerprints"`
		Suppressions        []sarifSuppression `json:"suppressions,omitempty"`
		Provenance          *sarifProvenance   `json:"provenance,omitempty"`
	}
	sarifSuppression struct {
		Kind          string `json:"kind"`
		Status        string `json:"status"`
		Justification string `json:"justification"`
	}
	sarifProvenance struct {
		FirstDetection string `json:"firstDetectionTimeUtc"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
	}
	sarifLogical struct {
		Name               string `json:"name"`
		FullyQualifiedName string `json:"fullyQualifiedName"`
		Kind               string `json:"kind"`
	}
)

// SARIF writes the report as SARIF 2.1.0: a result for each host that drifts from a
// policy, that cannot be judged (kind open), or that is waived (suppressed). What a
// host does not say at all is a notification.
func SARIF(w io.Writer, r *Report) error {
	run := sarifRun{Results: []sarifResult{}, Tool: sarifTool{sarifDriver{Name: "fleetd", InformationURI: "https://github.com/fleetd/fleetd", Rules: []sarifRule{}}}}
	rules := map[string]int{}
	end := sarifInvocation{ExecutionSuccessful: r.Status != Unknown, EndTimeUTC: r.At.UTC().Format(time.RFC3339)}
	for _, h := range r.Hosts {
		if p := h.Problem; p != nil {
			end.Notifications = append(end.Notifications, sarifNotification{"error", sarifText{withHint(p.Message, p.Hint)}, []sarifLocation{r.sarifAt(h.Name, rollout.Position{})}})
		}
		for _, f := range h.Findings {
			if f.Status == Compliant {
				continue
			}
			policy := r.Policy(f.Policy)
			id := f.Policy + "/" + f.Rule
			i, known := rules[id]
			if !known {
				i = len(rules)
				rules[id] = i
				rule := sarifRule{ID: id, ShortDescription: sarifText{f.Policy}, DefaultConfiguration: sarifLevel{sarifLevelOf(policy.Severity)}}
				if policy.Fix != "" {
					rule.Help = &sarifText{policy.Fix}
				}
				run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
			}
			sum := sha256.Sum256([]byte(f.Policy + "\x00" + f.Rule + "\x00" + h.Name))
			res := sarifResult{
				RuleID: id, RuleIndex: i, Kind: "fail", Level: sarifLevelOf(policy.Severity), Message: sarifText{h.Name + ": " + f.Said()},
				Locations: []sarifLocation{r.sarifAt(h.Name, policy.At)}, PartialFingerprints: map[string]string{"fleetd/v1": hex.EncodeToString(sum[:])},
			}
			if f.Status == Unknown {
				res.Kind, res.Level = "open", "none"
			}
			if f.Since != nil {
				res.Provenance = &sarifProvenance{f.Since.UTC().Format(time.RFC3339)}
			}
			if f.Status == Waived {
				res.Suppressions = []sarifSuppression{{"external", "accepted", f.Waiver.String()}}
			}
			run.Results = append(run.Results, res)
		}
	}
	run.Invocations = []sarifInvocation{end}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(sarifLog{
		Schema: "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json", Version: "2.1.0", Runs: []sarifRun{run},
	})
}

func sarifLevelOf(s Severity) string {
	return map[Severity]string{High: "error", Medium: "warning", Low: "note"}[s]
}

// sarifAt is a host, and the place of the policy: whoever shows results beside files
// drops those that are in none.
func (r *Report) sarifAt(host string, at rollout.Position) sarifLocation {
	l := sarifLocation{Logical: []sarifLogical{{Name: host, FullyQualifiedName: host, Kind: "resource"}}}
	inventory := ""
	if len(r.Inventories) > 0 {
		inventory = r.Inventories[0]
	}
	file := cmp.Or(at.File, r.Playbook, inventory)
	if file == "" {
		return l
	}
	var parts []string
	for part := range strings.SplitSeq(file, "/") {
		parts = append(parts, url.PathEscape(part))
	}
	uri := strings.Join(parts, "/")
	if strings.HasPrefix(uri, "/") {
		uri = "file://" + uri
	}
	l.Physical = &sarifPhysical{Artifact: sarifArtifact{uri}}
	if at.Line > 0 {
		l.Physical.Region = &sarifRegion{at.Line, at.Column}
	}
	return l
}
