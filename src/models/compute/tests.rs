//! Who is to blame for a failure.

use super::*;

/// Answers with the value of the first feature.
struct FirstFeatureModel(Signature);

impl Model for FirstFeatureModel {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let answer = |row: &[f64]| match row[0] {
            7.0 => Err(PredictError("told to fail".to_owned())),
            8.0 => Ok(f64::NAN),
            _ => Ok(row[1] * row[1] * 1e100),
        };
        rows.iter()
            .map(answer)
            .collect::<Result<_, _>>()
            .map(Output::Numbers)
    }
}

#[test]
fn a_model_that_fails_on_ordinary_rows_is_to_blame_whatever_else_there_is() {
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let model = FirstFeatureModel(Signature::of_numbers(
        names,
        OutputSpec::Numbers { width: 1 },
    ));
    let far = [0.0, -1e150, 1e101];
    let says = |values: &[[f64; 3]]| {
        let rows = Rows::new(values.concat(), 3).unwrap();
        predict(&model, &rows).map(|_| ())
    };
    let failed = Err(ComputeError::Model(PredictError("told to fail".to_owned())));
    assert_eq!(says(&[[0.0; 3]]), Ok(()));
    assert_eq!(says(&[[7.0, 0.0, 0.0]]), failed);
    assert_eq!(
        says(&[far.map(|value| value * 1e-60), [7.0, 0.0, 0.0]]),
        failed
    );
    // The encoder reports the first one, which is the model's fault.
    assert_eq!(says(&[[8.0, 0.0, 0.0], far]), Ok(()));
    let Err(ComputeError::Input(fault)) = says(&[[0.0; 3], far]) else {
        panic!("it has a finite answer");
    };
    assert_eq!((fault.row, fault.feature), (1, 1));
    let rows = Rows::new([[0.0; 3], far].concat(), 3).unwrap();
    let text = "the feature \"b\" must be closer to 0, as the model's answer to it is not finite, but is -1e150";
    assert_eq!(fault_text(&model.0, &rows, &fault), text);
}
